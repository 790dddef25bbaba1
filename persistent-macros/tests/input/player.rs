#[persistent_server]
impl Player {
    /// Adds `points` and returns the new score.
    ///
    /// A paragraph more.
    pub fn add(&mut self, points: u64) -> u64 {
        self.score += points;
        self.score
    }

    pub async fn rival(&self, context: &Context<Self>) -> Option<Self> {
        None
    }

    #[cfg(feature = "cheats")]
    #[cast]
    pub fn set(&mut self, r#type: Kind, mut value: Vec<Self>) {}

    pub async fn trade(&mut self, item: Item, context: &Context<Self>, reply: Reply<Option<Self>>) {}

    #[skip]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn helper(&self) {}
}
