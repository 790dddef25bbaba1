//! The compile errors of the attribute, word for word, and the forms of code that
//! it must accept.

#[test]
fn errors_underline_the_users_own_tokens() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

#[test]
fn every_form_of_server_compiles() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}
