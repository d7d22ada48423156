//! A cluster that listens on a port and speaks TLS there, with a certificate of this folder.
//!
//! The certificate (`tls/server.pem`, for `localhost`, good for a hundred years) is signed by an
//! authority that nobody knows but who reads `tls/ca.pem`; the authority's own key was thrown away.
//!
//!     openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -keyout ca.key
//!         -out ca.pem -subj "/CN=landfall test authority" -addext basicConstraints=critical,CA:TRUE
//!     openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key
//!         -out server.csr -subj /CN=localhost
//!     openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 36500 -out server.pem -extfile …
//!         (subjectAltName=DNS:localhost, basicConstraints=CA:FALSE, extendedKeyUsage=serverAuth)

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::{Cluster, Database, PASSWORD, ROLE};

/// What the cluster's files are named in its own folder.
const FILES: [(&str, &str); 3] = [
    ("ca.pem", include_str!("../tls/ca.pem")),
    ("server.pem", include_str!("../tls/server.pem")),
    ("server.key", include_str!("../tls/server.key")),
];

impl Cluster {
    /// Makes the cluster listen on a port of this machine, with TLS if `tls` says so, for those who
    /// want it. Connections by its socket go on as before, but for the port in their addresses.
    ///
    /// # Panics
    /// Where it does not start again so.
    pub fn listen(&self, tls: bool) {
        for (name, content) in FILES {
            self.write(name, content);
        }
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = match free {
            Ok(address) => address.port(),
            Err(error) => panic!("there is no free port: {error}"),
        };
        let port_text = port.to_string();
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("port", port_text.as_str()),
            ("ssl", if tls { "on" } else { "off" }),
            ("ssl_cert_file", "server.pem"),
            ("ssl_key_file", "server.key"),
        ] {
            self.admin(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        }
        self.restart();
        self.port.store(port, Ordering::Relaxed);
    }

    /// The certificate of the authority that has signed the cluster's.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("data/ca.pem")
    }

    /// A database's address by the port, for this name of the machine.
    pub fn by_port(&self, database: &Database, host: &str) -> String {
        let (port, name) = (self.port.load(Ordering::Relaxed), &database.name);
        format!("postgres://{ROLE}:{PASSWORD}@{host}:{port}/{name}")
    }

    /// A file that the server may read and nobody else: it asks for that.
    fn write(&self, name: &str, content: &str) {
        let folder = self.folder.join("data");
        let file = folder.join(name);
        let written = fs::write(&file, content)
            .and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o600)))
            .and_then(|()| fs::metadata(&folder))
            .and_then(|owner| chown(&file, Some(owner.uid()), Some(owner.gid())));
        if let Err(error) = written {
            panic!("{} cannot be written: {error}", file.display());
        }
    }
}
