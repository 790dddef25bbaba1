//! What a runtime is configured with, from outside the code.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    config::{
        de::with_path,
        env,
        options::{Choices, Options},
    },
    error::OptionsError,
};

/// Options for all server types and for single ones, as a value that serde
/// reads from any format. [`Builder::config`](crate::Builder::config) takes it.
///
/// [`Options`] says how each option is written. Unknown keys and values of a
/// wrong type are errors that name the key; values that can't be honoured, a
/// mailbox for no message say, are errors when the runtime opens. A name among
/// the `servers` that no type has is no error: a type may be used for the first
/// time at any time.
///
/// ```
/// use persistent_runtime::{Config, Runtime};
///
/// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Player;
/// # #[persistent_runtime::persistent_server] impl Player {}
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: Config = toml::from_str(
///     r#"
///         [defaults]
///         idle_timeout = "10m"
///
///         [servers.Player]
///         idle_timeout = "never"
///         max_restarts = { count = 3, within = "5s" }
///         persist = { every = "500ms" }
///     "#,
/// )?;
/// let runtime = Runtime::builder().config(config).in_memory().await?;
///
/// let error = toml::from_str::<Config>("[servers.Player]\nmailbox = \"big\"").unwrap_err();
/// assert!(error.to_string().contains("servers.Player.mailbox"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// For every type.
    pub defaults: Options,
    /// For single types, by their stored names; over the `defaults`.
    pub servers: BTreeMap<String, Options>,
}

/// The fields of [`Config`], without the location of an error.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    defaults: Choices,
    servers: BTreeMap<String, Choices>,
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { defaults, servers } = with_path(deserializer)?;
        let servers = servers.into_iter().map(|(name, choices)| (name, choices.into()));
        Ok(Self { defaults: defaults.into(), servers: servers.collect() })
    }
}

impl Config {
    /// Adds choices for every type, over those made before.
    pub(crate) fn set_defaults(&mut self, options: Options) {
        self.defaults = options.over(&self.defaults);
    }

    /// Adds choices for one type, over those made before.
    pub(crate) fn set_server(&mut self, name: String, options: Options) {
        let known = self.servers.entry(name).or_default();
        *known = options.over(known);
    }

    /// Adds another configuration's choices, over those made before.
    pub(crate) fn set(&mut self, other: Self) {
        self.set_defaults(other.defaults);
        for (name, options) in other.servers {
            self.set_server(name, options);
        }
    }

    /// The choices for one type.
    fn of(&self, name: &str) -> Options {
        self.servers.get(name).cloned().unwrap_or_default().over(&self.defaults)
    }

    /// Refuses what can't be honoured.
    fn check(&self) -> Result<(), OptionsError> {
        let refused = |layer: String| move |reason: String| OptionsError::new(layer, reason);
        self.defaults.check().map_err(refused("defaults".to_owned()))?;
        for (name, options) in &self.servers {
            options.check().map_err(refused(format!("servers.{name}")))?;
        }
        Ok(())
    }
}

/// Every layer of a runtime's options above the attributes.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    builder: Config,
    /// By the names that types have in variables.
    environment: Config,
}

impl Layers {
    pub(crate) fn new(
        builder: Config,
        variables: impl IntoIterator<Item = Result<Config, OptionsError>>,
    ) -> Result<Self, OptionsError> {
        builder.check()?;
        let mut environment = Config::default();
        for read in variables {
            environment.set(read?);
        }
        Ok(Self { builder, environment })
    }

    /// Every option of a type, each from the nearest layer that sets it.
    pub(crate) fn options(&self, name: &str, attribute: &Options) -> Options {
        let environment = self.environment.of(&env::name_of(name));
        environment.over(&self.builder.of(name)).over(attribute)
    }
}
