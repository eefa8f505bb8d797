#[abe_events::test]
fn checks() {}

fn main() {}
