#[derive(
    ::abe_events::__private::serde::Serialize,
    ::abe_events::__private::serde::Deserialize,
)]
#[serde(crate = "::abe_events::__private::serde")]
/// A customer placed an order.
#[derive(Clone)]
///
/// Event `order.created`, version 2.
pub struct OrderCreated {
    pub user_id: u64,
    pub total: f64,
}
#[automatically_derived]
impl ::abe_events::Event for OrderCreated {
    const DESCRIPTOR: &'static ::abe_events::EventDescriptor = {
        static DESCRIPTOR: ::abe_events::EventDescriptor = ::abe_events::EventDescriptor {
            topic: "order.created",
            version: 2u32,
            name: "OrderCreated",
            doc: "A customer placed an order.",
            at: ::abe_events::__private::here!(),
            type_id: ::core::any::TypeId::of::<OrderCreated>(),
            oldest: || (<OrderCreatedV1 as ::abe_events::Event>::DESCRIPTOR.oldest)(),
            content_type: ::abe_events::__private::content_type::<OrderCreated>(),
            has_key: true,
            sensitive: &[],
            check: ::abe_events::__private::check::<OrderCreated>,
        };
        &DESCRIPTOR
    };
    type Codec = ::abe_events::Json;
    fn key(&self) -> ::core::option::Option<::abe_events::__private::CompactString> {
        ::core::option::Option::Some(::abe_events::__private::key_text(&self.user_id))
    }
    fn decode(
        __abe_version: u32,
        __abe_bytes: &[u8],
    ) -> ::core::result::Result<Self, ::abe_events::Unreadable> {
        if __abe_version < 2u32 {
            let __abe_old = ::abe_events::__private::read_older::<
                Self,
                OrderCreatedV1,
            >(__abe_version, __abe_bytes)?;
            return ::core::result::Result::Ok(
                <Self as ::core::convert::From<OrderCreatedV1>>::from(__abe_old),
            );
        }
        ::abe_events::__private::read(__abe_version, __abe_bytes)
    }
}
const _: () = ::abe_events::__private::check_upcast::<OrderCreated, OrderCreatedV1>();
::abe_events::__private::register!(
    event < OrderCreated as ::abe_events::Event > ::DESCRIPTOR
);
