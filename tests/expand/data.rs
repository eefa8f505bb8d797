#[derive(
    ::abe_events::__private::serde::Serialize,
    ::abe_events::__private::serde::Deserialize,
)]
#[serde(crate = "::abe_events::__private::serde")]
pub struct Card {
    number: String,
}
#[automatically_derived]
impl ::core::fmt::Debug for Card {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            Self { number: _ } => {
                f.debug_struct("Card")
                    .field("number", &::core::format_args!("[sensitive]"))
                    .finish()
            }
        }
    }
}
