#[derive(
    ::abe_events::__private::serde::Serialize,
    ::abe_events::__private::serde::Deserialize,
)]
#[serde(crate = "::abe_events::__private::serde")]
/// Event `signup`, version 2.
enum Signup {
    Named { name: String, password: String },
    Anonymous(u8),
    None,
}
#[automatically_derived]
impl ::core::fmt::Debug for Signup {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            Self::Named { name: __abe_field0, password: _ } => {
                f.debug_struct("Named")
                    .field("name", __abe_field0)
                    .field("password", &::core::format_args!("[sensitive]"))
                    .finish()
            }
            Self::Anonymous { 0: __abe_field0 } => {
                f.debug_tuple("Anonymous").field(__abe_field0).finish()
            }
            Self::None {} => f.debug_tuple("None").finish(),
        }
    }
}
#[automatically_derived]
impl ::abe_events::Event for Signup {
    const DESCRIPTOR: &'static ::abe_events::EventDescriptor = {
        static DESCRIPTOR: ::abe_events::EventDescriptor = ::abe_events::EventDescriptor {
            topic: "signup",
            version: 2u32,
            name: "Signup",
            doc: "",
            at: ::abe_events::__private::here!(),
            type_id: ::core::any::TypeId::of::<Signup>(),
            oldest: || (<V1 as ::abe_events::Event>::DESCRIPTOR.oldest)(),
            content_type: ::abe_events::__private::content_type::<Signup>(),
            has_key: true,
            sensitive: &["Named.password"],
            check: ::abe_events::__private::check::<Signup>,
        };
        &DESCRIPTOR
    };
    type Codec = ::abe_events::Json;
    fn key(&self) -> ::core::option::Option<::abe_events::__private::CompactString> {
        ::core::option::Option::Some(
            ::abe_events::__private::key_text(
                &{
                    let __abe_event = self;
                    let signup: &Self = __abe_event;
                    signup.name.len()
                },
            ),
        )
    }
    fn decode(
        __abe_version: u32,
        __abe_bytes: &[u8],
    ) -> ::core::result::Result<Self, ::abe_events::Unreadable> {
        if __abe_version < 2u32 {
            let __abe_old = ::abe_events::__private::read_older::<
                Self,
                V1,
            >(__abe_version, __abe_bytes)?;
            return ::abe_events::__private::upcast::<Self, V1, _>(convert, __abe_old);
        }
        ::abe_events::__private::read(__abe_version, __abe_bytes)
    }
}
const _: () = ::abe_events::__private::check_upcast::<Signup, V1>();
::abe_events::__private::register!(event < Signup as ::abe_events::Event > ::DESCRIPTOR);
