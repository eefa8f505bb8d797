use abe_events::{BoxError, Codec, event};
use serde::Serialize;
use serde::de::DeserializeOwned;

struct Cbor;

impl Codec for Cbor {
    const CONTENT_TYPE: &'static str = "cbor";

    fn encode<T: Serialize>(_: &T) -> Result<Vec<u8>, BoxError> {
        Err("no".into())
    }

    fn decode<T: DeserializeOwned>(_: &[u8]) -> Result<T, BoxError> {
        Err("no".into())
    }
}

#[event(topic = "a", codec = Cbor)]
struct Order;

fn main() {}
