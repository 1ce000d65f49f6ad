//! A network of the server's own, behind a pair of virtual interfaces: a wire that can be pulled.
//!
//! ```text
//!   proxy ── 10.233.N.1 (dbcN-a) ══ wire ══ (dbcN-b) 10.233.N.2 ── server
//! ```
//!
//! INVARIANT: removed when it is dropped, and the interfaces with it. It leads nowhere else.

use crate::needs::{done, is_root};

/// A namespace with its wire.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Its third number in addresses.
    number: u32,
}

impl Namespace {
    /// A new one.
    ///
    /// # Errors
    /// If this machine cannot.
    pub fn new() -> Result<Namespace, String> {
        is_root()?;
        let process = std::process::id();
        // Two runs at a time have different process numbers; the few that share this one collide
        // with an error.
        let (name, number) = (format!("daybook-chaos-{process}"), process % 250);
        done("ip", &["netns", "add", &name])?;
        let namespace = Namespace { name, number };
        let (outside, inside) = (namespace.outside(), namespace.inside());
        let name = namespace.name.as_str();
        done("ip", &["link", "add", &outside, "type", "veth", "peer", "name", &inside])?;
        done("ip", &["link", "set", &inside, "netns", name])?;
        done("ip", &["addr", "add", &format!("10.233.{number}.1/30"), "dev", &outside])?;
        done("ip", &["link", "set", &outside, "up"])?;
        let address = format!("{}/30", namespace.host());
        done("ip", &["-n", name, "addr", "add", &address, "dev", &inside])?;
        done("ip", &["-n", name, "link", "set", "lo", "up"])?;
        namespace.up()?;
        Ok(namespace)
    }

    fn outside(&self) -> String {
        format!("dbc{}-a", self.number)
    }

    fn inside(&self) -> String {
        format!("dbc{}-b", self.number)
    }

    /// The server's address.
    #[must_use]
    pub fn host(&self) -> String {
        format!("10.233.{}.2", self.number)
    }

    /// What starts a program in it.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// Pulls the wire, at the server's end: the clients' side is told nothing.
    ///
    /// # Errors
    /// The tool's words.
    pub fn down(&self) -> Result<(), String> {
        done("ip", &["-n", &self.name, "link", "set", &self.inside(), "down"])
    }

    /// Puts it back.
    ///
    /// # Errors
    /// The tool's words.
    pub fn up(&self) -> Result<(), String> {
        done("ip", &["-n", &self.name, "link", "set", &self.inside(), "up"])
    }

    /// Has the kernel delay and lose packets, each way.
    ///
    /// # Errors
    /// The tool's words.
    pub fn delay(&self, delay: &str, jitter: &str, loss: &str) -> Result<(), String> {
        let netem = ["root", "netem", "delay", delay, jitter, "loss", loss];
        let (outside, inside) = (self.outside(), self.inside());
        done("tc", &[&["qdisc", "replace", "dev", &outside], &netem[..]].concat())?;
        let within = ["-n", &self.name, "qdisc", "replace", "dev", &inside];
        done("tc", &[&within, &netem[..]].concat())
    }

    /// Ends that.
    ///
    /// # Errors
    /// The tool's words.
    pub fn still(&self) -> Result<(), String> {
        done("tc", &["qdisc", "del", "dev", &self.outside(), "root"])?;
        done("tc", &["-n", &self.name, "qdisc", "del", "dev", &self.inside(), "root"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with its end; it may not have come so far.
        let _ = done("ip", &["link", "del", &self.outside()]);
        let _ = done("ip", &["netns", "del", &self.name]);
    }
}
