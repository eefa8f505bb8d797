abe_events::link!(serde, tokio);

fn main() {
    assert_eq!(abe_events::__private::linked_crates()[0].crates, ["serde", "tokio"]);
}
