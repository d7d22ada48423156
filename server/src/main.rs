//! `landfall-server`: reads the command line, serves until it is told to stop.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use landfall_server::Server;
use landfall_server::cli::{Args, SECRET_VARIABLE};
use tokio::net::TcpListener;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landfall-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<(), Box<dyn Error>> {
    start_log(&args)?;
    if let Some(command) = args.command {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let done = runtime.block_on(command.run())?;
        writeln!(std::io::stdout(), "{done}")?;
        return Ok(());
    }
    let listen = args.listen;
    let config = args.into_config(std::env::var(SECRET_VARIABLE).ok())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::open(config).await?;
        let shutdown = shutdown_signal()?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let address = listener.local_addr()?;
        // Not println!, which panics where nobody reads.
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "listening on http://{address}").and_then(|()| stdout.flush());
        server.run(listener, shutdown).await?;
        Ok(())
    })
}

/// To standard error: standard output is for the address.
fn start_log(args: &Args) -> Result<(), Box<dyn Error>> {
    let filter: Targets = args.log.parse()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if args.log_json {
        registry.with(lines.json()).init();
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        registry.with(lines.with_ansi(colours)).init();
    }
    Ok(())
}

/// Ends at the first SIGTERM or SIGINT. The handlers are in place when this returns.
#[cfg(unix)]
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends at the first Ctrl-C.
#[cfg(not(unix))]
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
