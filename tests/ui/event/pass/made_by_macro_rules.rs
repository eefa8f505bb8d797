use abe_events::event;

macro_rules! events {
    ($($name:ident $topic:literal $version:literal $field:ident: $ty:ty;)+) => {$(
        #[event(topic = $topic, version = $version, key = $field)]
        pub struct $name {
            $field: $ty,
        }
    )+};
}

events! {
    A "a" 1 id: u64;
    B "b" 2 name: String;
}

fn main() {}
