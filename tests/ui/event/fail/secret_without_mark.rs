use abe_events::event;

#[event(topic = "a")]
struct Signup {
    name: String,
    password: String,
}

fn main() {}
