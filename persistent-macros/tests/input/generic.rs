#[persistent_server(name = "stack")]
impl<T: Payload, const N: usize> Stack<T, N>
where
    Vec<T>: Debug,
{
    pub fn push(&mut self, items: [T; N]) {}

    pub fn swap(&mut self, other: Self) -> [u8; Self::SIZE] {}
}
