//! What the attribute says to mistakes, word for word, and the shapes of code
//! that it must take.

#[test]
fn mistakes_stand_under_the_users_own_tokens() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}

#[test]
fn every_shape_of_server_compiles() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}
