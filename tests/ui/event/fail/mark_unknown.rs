use abe_events::event;

#[event(topic = "a")]
struct Signup {
    #[event(secret)]
    name: String,
}

fn main() {}
