//! Every diagnostic is a fixture; `ui/README.md` has the rules.

#[test]
fn fixtures() {
    let cases = trybuild::TestCases::new();
    for of in ["event", "subscribe"] {
        cases.pass(format!("../tests/ui/{of}/pass/*.rs"));
        cases.compile_fail(format!("../tests/ui/{of}/fail/*.rs"));
    }
}
