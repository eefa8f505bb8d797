#[::core::prelude::v1::test]
#[should_panic]
fn bills() {
    async fn bills(bus: TestBus) -> Result<()> {
        Ok(())
    }
    ::abe_events::__private::run_test(
        ::core::concat!(::core::module_path!(), "::", ::core::stringify!(bills)),
        bills,
    )
}
