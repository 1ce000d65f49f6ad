//! What a RabbitMQ connector's table says.

use std::fmt;
use std::str::FromStr as _;

use daybook_model::stream::category;
use lapin::uri::{AMQPScheme, AMQPUri};

use super::SHORT_TEXT_MAX;
use crate::connect::guard::GuardSettings;
use crate::connect::section::{ConfigError, Referred, Secret, Section};
use crate::connect::sink::Message;
use crate::connect::webhook::is_loopback;

/// Messages under way at a time.
pub const WINDOW_MAX: u64 = 1024;
/// What stands for the category of a stream that has none.
const NO_CATEGORY: &str = "other";
/// Seconds between two signs of life on the connection.
const HEARTBEAT_S: u16 = 10;

static PASSWORD: Referred =
    Referred { name: "password", env: "password_env", file: "password_file" };

/// A broker.
#[derive(Clone)]
pub struct RabbitMqSettings {
    /// Where it is, without a login.
    pub(super) uri: AMQPUri,
    pub(super) user: String,
    pub(super) password: Secret,
    exchange: Exchange,
    /// Whether exchanges are declared before the first message.
    pub(super) declare: bool,
    /// Whether a message that no queue is bound for is refused.
    pub(super) mandatory: bool,
    /// Messages under way at a time.
    pub(super) window: usize,
    /// PEM of the authority that signed the broker's certificate, if it is not a public one.
    pub(super) authority: Option<String>,
    /// How its calls are guarded.
    pub guard: GuardSettings,
}

#[derive(Clone, Debug)]
enum Exchange {
    One(String),
    OfCategory { prefix: String },
}

impl fmt::Debug for RabbitMqSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqSettings")
            .field("broker", &self.broker())
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

impl RabbitMqSettings {
    /// Reads the keys of a RabbitMQ connector.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(section: &mut Section<'_>) -> Result<RabbitMqSettings, ConfigError> {
        let allow_plain = section.flag("allow_plain", false)?;
        let uri = uri(section, allow_plain)?;
        let user = section.text("user")?.unwrap_or_else(|| "guest".to_owned());
        let password = match section.secret(&PASSWORD)? {
            Some(password) => password,
            // What a new broker has, and lets in from its own machine only.
            None if user == "guest" => Secret::new("guest"),
            None => {
                let takes = "is missing; give password_env or password_file";
                return Err(section.wrong(PASSWORD.name, takes));
            }
        };
        let prefix = section.text("exchange_prefix")?;
        let exchange = match (section.text("exchange")?, prefix) {
            (Some(_), Some(_)) => {
                return Err(section.wrong("exchange", "cannot be given beside exchange_prefix"));
            }
            (Some(exchange), None) => Exchange::One(exchange),
            (None, prefix) => {
                Exchange::OfCategory { prefix: prefix.unwrap_or_else(|| "daybook.".to_owned()) }
            }
        };
        let authority = match section.text("ca_file")? {
            None => None,
            Some(path) => Some(std::fs::read_to_string(&path).map_err(|error| {
                section.wrong("ca_file", format!("cannot read {path}: {error}"))
            })?),
        };
        let declare = section.flag("declare", true)?;
        let mandatory = section.flag("mandatory", true)?;
        let window = section.number("window", 1..=WINDOW_MAX, 128)?;
        let window = usize::try_from(window).unwrap_or(1);
        let guard = GuardSettings::read(section)?;
        Ok(RabbitMqSettings {
            uri,
            user,
            password,
            exchange,
            declare,
            mandatory,
            window,
            authority,
            guard,
        })
    }

    /// The broker, for people.
    #[must_use]
    pub fn broker(&self) -> String {
        let AMQPUri { scheme, authority, vhost, .. } = &self.uri;
        format!("{scheme}://{}:{}/{vhost}", authority.host, authority.port)
    }

    /// The exchange that `message` is published to.
    pub(super) fn exchange_of(&self, message: &Message) -> Result<String, String> {
        let exchange = match &self.exchange {
            Exchange::One(exchange) => exchange.clone(),
            Exchange::OfCategory { prefix } => {
                let category = category(message.stream.as_str()).unwrap_or(NO_CATEGORY);
                format!("{prefix}{category}")
            }
        };
        for (what, size) in [("type", message.event_type.len()), ("exchange", exchange.len())] {
            if size > SHORT_TEXT_MAX {
                return Err(format!(
                    "its {what} has {size} bytes, and AMQP takes {SHORT_TEXT_MAX}"
                ));
            }
        }
        Ok(exchange)
    }
}

fn uri(section: &mut Section<'_>, allow_plain: bool) -> Result<AMQPUri, ConfigError> {
    let takes = "amqp://HOST:PORT/VHOST or amqps://HOST:PORT/VHOST";
    let text = section.required("url", takes)?;
    // Before anything else reads it: an error of others could quote a password.
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    if authority.split('/').next().is_some_and(|authority| authority.contains('@')) {
        let reason = "takes no login or password; give user, and password_env or password_file";
        return Err(section.wrong("url", reason));
    }
    let parsed = AMQPUri::from_str(&text);
    let mut uri = parsed.map_err(|_| section.wrong("url", format!("takes {takes}")))?;
    if uri.scheme == AMQPScheme::AMQP && !allow_plain && !is_loopback(&uri.authority.host) {
        let reason = "amqp:// reaches other machines unencrypted; give amqps://, or allow_plain = \
                      true";
        return Err(section.wrong("url", reason));
    }
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_S));
    Ok(uri)
}
