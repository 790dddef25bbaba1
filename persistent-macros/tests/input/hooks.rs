#[persistent_server(
    name = "team",
    key = (League, u32),
    version = 3,
    restart = permanent,
    max_restarts(3, within = "5s"),
    retry_after = "1m",
    backoff(min = "100ms", jitter = 0.25),
    idle_timeout = never,
    mailbox = 16,
    call_timeout = "1s 500ms",
    persist = every("500ms"),
    await_commits = true,
    vis = pub(crate),
    crate = crate::runtime
)]
#[cfg(unix)]
impl sports::Team {
    #[init]
    async fn found(name: String, size: u8, context: &Context<Self>) -> Result<Self, Error> {
        Ok(Self::new(name, size))
    }

    #[save]
    fn save(&self) -> &Roster {
        &self.roster
    }

    #[restore]
    fn restore(context: &Context<Self>, roster: Roster) -> Result<Self, Error> {
        Self::read(roster)
    }

    #[started]
    fn started(&mut self) {}

    #[terminate]
    async fn ended(&self, context: &Context<Self>, reason: &StopReason) {}

    #[migrate(from = 1)]
    fn from_first(old: FirstTeam) -> SecondTeam {
        old.into()
    }

    #[migrate(from = 2)]
    fn from_second(old: SecondTeam) -> Self {
        old.into()
    }

    /// Every minute, as [`Self::found`] says.
    #[info]
    async fn tick(&mut self, minute: u64, context: &Context<Self>) {}
}
