use abe_events::{event, handlers, subscribe};

#[event(topic = "tick")]
pub struct Tick;

#[subscribe]
async fn bill(_tick: &Tick) {}

pub mod orders {
    use super::Tick;

    #[abe_events::subscribe]
    pub async fn ship(_tick: &Tick) {}

    #[abe_events::subscribe]
    pub(super) async fn r#match(_tick: &Tick) {}
}

fn main() {
    #[subscribe]
    async fn local(_tick: &Tick) {}
    let names: Vec<_> = handlers![bill, orders::ship, orders::r#match, local].iter().map(|handler| handler.spec.name).collect();
    assert!(names[0].ends_with("::bill") && names[1].ends_with("::orders::ship") && names[2].ends_with("::orders::match"));
    assert!(names[3].ends_with("::local"));
    assert!(handlers![].is_empty());
}
