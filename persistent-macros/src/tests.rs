#[test]
fn t() {
    println!(
        "{}",
        super::persistent_server2(
            quote::quote!(),
            quote::quote!(impl Empty { pub fn a(&self, x: u8) -> u64 {} })
        )
    );
}
