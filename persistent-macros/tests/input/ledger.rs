#[persistent_server(version = 2, journal = messages(snapshot_every = 500))]
impl Ledger {
    pub fn book(&mut self, amount: i64, context: &Context<Self>) -> u64 {
        self.entries.push((context.now(), amount));
        self.entries.len()
    }

    pub async fn print(&self) {}

    #[migrate(from = 1)]
    fn from_first(old: FirstLedger) -> Self {
        old.into()
    }

    #[migrate_message(from = 1)]
    fn message_from_first(old: FirstMessage) -> Option<LedgerMessage> {
        None
    }
}
