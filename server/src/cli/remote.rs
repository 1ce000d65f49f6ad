//! What commands that talk to a server have in common.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Arg, Args, Command};
use daybook_client::{
    AllFrom, Checkpoint, Client, Credentials, Identity, Position, ReadAll, ReadError, Settings,
    Token,
};
use daybook_model::Epoch;
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use uuid::Uuid;

use crate::security::dial::dial;
use crate::security::files::read_secret;

/// The variable that may hold a password. No option does: others see a command's options.
pub const PASSWORD_VARIABLE: &str = "DAYBOOK_PASSWORD";
/// Bytes of an answer over HTTP: a page of 1,000 names of streams, many times over.
const ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;

/// The name under which a change is known to the server.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What says how long a change may be waited for, and how long that is: a person still looks.
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PATIENCE: HeaderValue = HeaderValue::from_static("wait=10");

/// Which server a command talks to, and as whom.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    /// The running server: http://HOST:PORT, https://HOST:PORT, or a connection string of
    /// KurrentDB's form
    #[arg(
        long,
        env = "DAYBOOK_URL",
        // It may hold a password.
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:2113"
    )]
    pub url: String,

    #[command(flatten)]
    identity: IdentityArgs,
}

/// Whom a command believes, and as whom it calls.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Security")]
pub struct IdentityArgs {
    /// Who may vouch for the server: certificates of authorities, a PEM file [default: this
    /// machine's]
    #[arg(long, env = "DAYBOOK_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// A certificate by which we prove who we are, a PEM file
    #[arg(long, env = "DAYBOOK_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,

    /// Its private key, a PEM file
    #[arg(long, env = "DAYBOOK_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,

    /// As whom to call; DAYBOOK_PASSWORD or --password-file hold the password
    #[arg(long, env = "DAYBOOK_USER", value_name = "LOGIN")]
    user: Option<String>,

    /// The password, in a file
    #[arg(long, env = "DAYBOOK_PASSWORD_FILE", value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// A token to call with, in a file: an API token, or an issuer's (JWT)
    #[arg(long, env = "DAYBOOK_TOKEN_FILE", value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
}

impl IdentityArgs {
    /// What they say together with `url`.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn settings(&self, url: &str) -> anyhow::Result<Settings> {
        let mut settings = Settings::parse(url)?;
        self.put(&mut settings)?;
        Ok(settings)
    }

    /// Puts what was given into `settings`.
    fn put(&self, settings: &mut Settings) -> anyhow::Result<()> {
        if self.ca.is_some() || self.client_cert.is_some() {
            let Some(tls) = &mut settings.tls else {
                bail!("--ca and --client-cert have no use without TLS; give https://HOST:PORT")
            };
            tls.ca_file = self.ca.clone().or(tls.ca_file.take());
            if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
                let (certificate_file, key_file) = (certificate.clone(), key.clone());
                tls.identity = Some(Identity { certificate_file, key_file });
            }
        }
        if let Some(login) = &self.user {
            let (login, password) = (login.clone(), self.password(login)?);
            settings.credentials = Some(Credentials { login, password });
        }
        if let Some(file) = &self.token_file {
            settings.token = Some(Token(read_secret("--token-file", file)?));
        }
        let secret = settings.credentials.is_some() || settings.token.is_some();
        if secret && settings.tls.is_none() && !is_loopback(&settings.host) {
            tracing::warn!(
                "the password or token is sent in the clear: whoever sees the network has it; \
                 use https:// instead"
            );
        }
        Ok(())
    }

    fn password(&self, login: &str) -> anyhow::Result<String> {
        if let Some(file) = &self.password_file {
            return Ok(read_secret("--password-file", file)?);
        }
        if let Ok(password) = std::env::var(PASSWORD_VARIABLE)
            && !password.is_empty()
        {
            return Ok(password);
        }
        ask_password(&format!("Password of {login}: "))?.with_context(|| {
            format!("there is no password for --user; give --password-file, or {PASSWORD_VARIABLE}")
        })
    }
}

/// Lets a command's own flags stand behind the command within it, too: `daybook users list --url …`
/// or `daybook connectors run --ca FILE`. Only of commands whose inner ones have no such flags.
pub fn anywhere(command: Command) -> Command {
    const FLAGS: [&str; 8] =
        ["url", "json", "ca", "client-cert", "client-key", "user", "password-file", "token-file"];
    let ours = |flag: &Arg| flag.get_long().is_some_and(|long| FLAGS.contains(&long));
    command.mut_subcommands(|outer| {
        let takes = outer.get_arguments().any(|flag| flag.get_long() == Some("ca"));
        let own = outer.get_subcommands().any(|inner| inner.get_arguments().any(ours));
        if !takes || own || !outer.has_subcommands() {
            return outer;
        }
        outer.mut_args(|flag| if ours(&flag) { flag.global(true) } else { flag })
    })
}

/// Asks a person for a password; none if there is nobody to ask.
///
/// # Errors
/// If the terminal cannot be read.
pub fn ask_password(prompt: &str) -> anyhow::Result<Option<String>> {
    let terminal = console::Term::stderr();
    if !terminal.is_term() || !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    terminal.write_str(prompt)?;
    let password = terminal.read_secure_line().context("cannot read from the terminal")?;
    Ok(Some(password))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    bare == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

impl Remote {
    /// What the options say together.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        self.identity.settings(&self.url).context("--url (or DAYBOOK_URL) cannot be used")
    }

    /// A gRPC client of the server. Must be called within a runtime.
    ///
    /// # Errors
    /// If the options cannot be used.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::with(self.settings()?)?)
    }

    /// Asks over HTTP; the answer, whose body is still to come.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not answer as HTTP.
    pub async fn begin(
        &self,
        method: &str,
        path_and_query: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        self.send(request(method, path_and_query, body)?).await
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let settings = self.settings()?;
        let mut sender = dial(&settings.host, settings.port, settings.tls.as_ref())
            .await
            .context("check that the server runs, and that --url and --ca are right")?;
        let host = HeaderValue::try_from(format!("{}:{}", settings.host, settings.port))?;
        request.headers_mut().insert(header::HOST, host);
        if let Some(value) = settings.authorization() {
            let mut value = HeaderValue::from_str(&value).context("the token cannot be sent")?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        sender.send_request(request).await.context("the server did not answer")
    }

    /// Asks over HTTP; the status and the body.
    ///
    /// # Errors
    /// As [`Remote::begin`]; or if the answer is larger than such answers are.
    pub async fn http(&self, path_and_query: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let answer = self.begin("GET", path_and_query, Bytes::new()).await?;
        collected(answer).await
    }

    /// Asks for something to be done, once however often it is asked under `key`, and to hear of it
    /// when it has ended, if that does not take long.
    ///
    /// # Errors
    /// As [`Remote::http`].
    pub async fn act(
        &self,
        method: &str,
        path_and_query: &str,
        key: Uuid,
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = request(method, path_and_query, Bytes::from(body.to_string()))?;
        let key = HeaderValue::try_from(key.to_string())?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        request.headers_mut().insert(PREFER, PATIENCE);
        collected(self.send(request).await?).await
    }

    /// `GET`s JSON.
    ///
    /// # Errors
    /// As [`Remote::http`]; and with the server's own words if it refuses.
    pub async fn get(&self, path_and_query: &str) -> anyhow::Result<Value> {
        let (status, body) = self.http(path_and_query).await?;
        accepted(status, &body)
    }

    /// The place in `$all` of the event at `position`. The protocol's places also say which epoch
    /// wrote the event, so the epochs there were are tried, the newest first.
    ///
    /// # Errors
    /// If there is no such event, or the server cannot be asked.
    pub async fn checkpoint(
        &self,
        client: &Client,
        position: Position,
    ) -> anyhow::Result<Checkpoint> {
        let info = self.get("/info").await?;
        let number = |name: &str| {
            info[name].as_u64().with_context(|| format!("the server does not tell its {name}"))
        };
        let (epoch, committed) = (number("epoch")?, number("committed")?);
        if position.0 >= committed {
            bail!("there is no event at position {position}; the log ends before {committed}");
        }
        let newest = u32::try_from(epoch).context("the server's epoch is not one")?;
        for epoch in (0..=newest).rev().take(256) {
            let checkpoint = Checkpoint::at(position, Epoch(epoch));
            let query = ReadAll { from: AllFrom::At(checkpoint), count: 1, ..ReadAll::default() };
            let first = match client.read_all(query).await {
                Ok(mut events) => events.next().await.transpose(),
                Err(error) => Err(error),
            };
            match first {
                Err(ReadError::InvalidPosition { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(checkpoint),
            }
        }
        bail!("the server has no event at position {position}")
    }
}

fn request(
    method: &str,
    path_and_query: &str,
    body: Bytes,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(path_and_query);
    Ok(request.header(header::CONTENT_TYPE, "application/json").body(Full::new(body))?)
}

async fn collected(answer: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
    let status = answer.status();
    match Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => bail!("the server's answer cannot be read: {error}"),
    }
}

/// The JSON of an answer, if the server did what was asked.
///
/// # Errors
/// With the server's own words if it did not.
pub fn accepted(status: StatusCode, body: &[u8]) -> anyhow::Result<Value> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    if status.is_success() {
        return Ok(value.unwrap_or(Value::Null));
    }
    let detail = value.as_ref().and_then(|problem| problem["detail"].as_str());
    bail!("the server refuses ({status}): {}", detail.unwrap_or("it does not say why"))
}

/// `text` as one segment of a path, or one value of a query.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_segment_is_encoded() {
        assert_eq!(percent_encode("account-1/ü?"), "account-1%2F%C3%BC%3F");
    }
}
