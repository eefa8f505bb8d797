use abe_events::{Event, event};

#[event(topic = "order")]
pub struct V1(u8);

#[event(topic = "order", version = 2, upcast_from = V1)]
pub struct V2(u16);

#[event(topic = "order", version = "v5", upcast_from = V2, upcast_with = newest)]
pub struct V5(u32);

impl From<V1> for V2 {
    fn from(old: V1) -> Self {
        Self(old.0.into())
    }
}

fn newest(old: V2) -> Result<V5, std::num::TryFromIntError> {
    Ok(V5(old.0.into()))
}

fn main() {
    assert_eq!(V5::decode(1, b"7").unwrap().0, 7);
    assert!(V5::decode(3, b"7").is_err());
}
