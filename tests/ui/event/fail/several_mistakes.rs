use abe_events::event;

#[event(topic = "a b", version = 0, kee = id)]
struct Signup {
    password: String,
}

fn main() {}
