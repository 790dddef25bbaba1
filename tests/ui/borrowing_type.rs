use persistent_runtime::persistent_server;

struct Player;

struct View<'a>(&'a str);

#[persistent_server]
impl<'a> View<'a> {
    pub fn text(&self) -> String {
        self.0.to_owned()
    }
}

#[persistent_server]
impl [Player; 2] {}

fn main() {}
