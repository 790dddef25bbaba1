//! The configuration of a runtime from outside of the code, and the layers of options.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    config::{de::with_path, env, fields::OptionFields, options::Options},
    error::OptionsError,
};

/// The options of all server types and of single ones, readable by serde from any format. Given to
/// [`Builder::config`](crate::Builder::config).
///
/// [`Options`] describes how each option is written. Unknown keys and values of a wrong type are
/// errors of the deserialization that name the key. Values that are invalid, e.g. a mailbox for 0
/// messages, are errors when the runtime opens. A name in `servers` that no type has is not an
/// error, because a type may be used for the first time at any time.
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
#[non_exhaustive]
#[must_use]
pub struct Config {
    /// The options of all types.
    pub defaults: Options,
    /// The options of single types, by stored name. They override the `defaults`.
    pub servers: BTreeMap<String, Options>,
}

/// The fields of [`Config`], without the path of an error.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFields {
    defaults: OptionFields,
    servers: BTreeMap<String, OptionFields>,
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ConfigFields { defaults, servers } = with_path(deserializer)?;
        let servers = servers.into_iter().map(|(name, fields)| (name, fields.into()));
        Ok(Self { defaults: defaults.into(), servers: servers.collect() })
    }
}

impl Config {
    /// Creates a configuration without options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets options of all types. They override those set before, option by option.
    pub fn with_defaults(mut self, options: Options) -> Self {
        self.set_defaults(options);
        self
    }

    /// Sets options of the type with the stored name `name`. They override those set before,
    /// option by option.
    ///
    /// ```
    /// # use persistent_runtime::{Config, Options};
    /// let config = Config::new()
    ///     .with_defaults(Options::new().mailbox(100))
    ///     .with_server("Player", Options::new().mailbox(10));
    /// assert_eq!(config.servers["Player"], Options::new().mailbox(10));
    /// ```
    pub fn with_server(mut self, name: impl Into<String>, options: Options) -> Self {
        self.set_server(name.into(), options);
        self
    }

    /// Sets options of all types, as [`with_defaults`](Self::with_defaults) does.
    pub(crate) fn set_defaults(&mut self, options: Options) {
        self.defaults = options.or(&self.defaults);
    }

    /// Sets options of one type, as [`with_server`](Self::with_server) does.
    pub(crate) fn set_server(&mut self, name: String, options: Options) {
        let known = self.servers.entry(name).or_default();
        *known = options.or(known);
    }

    /// Sets all options of `other`.
    pub(crate) fn set(&mut self, other: Self) {
        self.set_defaults(other.defaults);
        for (name, options) in other.servers {
            self.set_server(name, options);
        }
    }

    /// Returns the options of one type.
    fn of(&self, name: &str) -> Options {
        self.servers.get(name).cloned().unwrap_or_default().or(&self.defaults)
    }

    /// Validates all values.
    fn check(&self) -> Result<(), OptionsError> {
        let invalid = |layer| move |reason| OptionsError::new(layer, reason);
        self.defaults.check().map_err(invalid("defaults".to_owned()))?;
        for (name, options) in &self.servers {
            options.check().map_err(invalid(format!("servers.{name}")))?;
        }
        Ok(())
    }
}

/// All layers of a runtime's options above the attributes.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    builder: Config,
    /// By the form that a type's name has in variables.
    environment: Config,
}

impl Layers {
    /// Validates `builder`, and merges the configurations of the environment in their order.
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

    /// Returns the options of the type with the stored name `name` and the options `attribute`.
    pub(crate) fn options(&self, name: &str, attribute: &Options) -> Options {
        let environment = self.environment.of(&env::variable_name(name));
        environment.or(&self.builder.of(name)).or(attribute)
    }
}
