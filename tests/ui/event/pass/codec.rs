//! Named by a path, beside `crate`, and in a chain of versions of which each has its own.

mod forms {
    use abe_events::{BoxError, Codec};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    pub struct Lines;

    impl Codec for Lines {
        const CONTENT_TYPE: &'static str = "text/x-lines";

        fn encode<T: Serialize>(event: &T) -> Result<Vec<u8>, BoxError> {
            Ok([b"lines\n", &*serde_json::to_vec(event)?].concat())
        }

        fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
            Ok(serde_json::from_slice(bytes.strip_prefix(b"lines\n").ok_or("no lines")?)?)
        }
    }
}

use abe_events::{Body, Event, event};

#[event(topic = "order.created", codec = abe_events::Json)]
struct OrderV1 {
    id: u64,
}

#[event(topic = "order.created", version = 2, upcast_from = OrderV1, codec = crate::forms::Lines, crate = ::abe_events)]
struct Order {
    id: u64,
}

impl From<OrderV1> for Order {
    fn from(old: OrderV1) -> Self {
        Self { id: old.id }
    }
}

fn main() {
    assert_eq!((OrderV1::DESCRIPTOR.content_type, Order::DESCRIPTOR.content_type), ("application/json", "text/x-lines"));
    assert_eq!(Order { id: 7 }.encode().unwrap(), "lines\n{\"id\":7}");
    assert_eq!(Order::decode(1, br#"{"id":7}"#).unwrap().id, 7);
    assert_eq!(Order::decode(2, b"lines\n{\"id\":7}").unwrap().id, 7);
}
