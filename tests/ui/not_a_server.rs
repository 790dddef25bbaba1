use persistent_runtime::Runtime;

struct Player;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let runtime = Runtime::in_memory().await.unwrap();
    let player = runtime.at::<Player>("vorpal", ());
    drop(player);
}
