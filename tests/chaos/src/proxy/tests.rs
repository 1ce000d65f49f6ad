use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Whoever is silent for so long is taken to be silent.
const SILENT: Duration = Duration::from_millis(150);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// A server that answers with what it is told.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn proxied() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo().await, 7).await.expect("a proxy");
    let stream = TcpStream::connect(proxy.address()).await.expect("connected");
    (proxy, stream)
}

/// Says `text` and waits for its echo.
async fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<Duration> {
    let begun = Instant::now();
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(begun.elapsed())
}

#[tokio::test]
async fn in_good_weather_bytes_and_ends_pass_unchanged() {
    let (_proxy, mut stream) = proxied().await;
    let text: Vec<u8> = (0..400_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let both = async {
        tokio::try_join!(
            async {
                to.write_all(&text).await?;
                to.shutdown().await
            },
            from.read_to_end(&mut answer)
        )
    };
    soon("the echo", both).await.expect("both ends are told");
    assert!(answer == text);
}

#[tokio::test]
async fn latency_is_added_each_way_and_not_for_each_chunk() {
    let (proxy, mut stream) = proxied().await;
    let (latency, jitter) = (Duration::from_millis(60), Duration::from_millis(20));
    proxy.set(Weather { latency, jitter, ..Weather::default() });
    let took = soon("an echo", exchange(&mut stream, b"one")).await.expect("an echo");
    assert!(took >= latency * 2, "{took:?}");
    // So many chunks one by one would take 24 s.
    let text = vec![5; CHUNK_SIZE * 200];
    let took = soon("an echo", exchange(&mut stream, &text)).await.expect("an echo");
    assert!((latency * 2..latency * 150).contains(&took), "{took:?}");
    proxy.set(Weather::default());
    soon("an echo", exchange(&mut stream, b"two")).await.expect("good weather again");
}

#[tokio::test]
async fn bandwidth_and_slices_change_the_pace_and_no_byte() {
    for (weather, least) in [
        (Weather { bandwidth: Some(100_000), ..Weather::default() }, Duration::from_millis(200)),
        (Weather { slice_size: Some(3), ..Weather::default() }, Duration::ZERO),
    ] {
        let (proxy, mut stream) = proxied().await;
        proxy.set(weather.clone());
        let took = soon("an echo", exchange(&mut stream, &[9; 20_000])).await.expect("an echo");
        assert!(took >= least, "{took:?} in {weather:?}");
    }
}

#[tokio::test]
async fn what_is_silent_is_held_back_and_comes_later() {
    for silence in [Silence::Both, Silence::Answers] {
        let (proxy, mut stream) = proxied().await;
        soon("an echo", exchange(&mut stream, b"before")).await.expect("an echo");
        proxy.set(Weather { silence, ..Weather::default() });
        stream.write_all(b"held").await.expect("the kernel takes it");
        let mut answer = [0; 4];
        let early = tokio::time::timeout(SILENT, stream.read_exact(&mut answer)).await;
        assert!(early.is_err(), "{silence:?}: {early:?}");
        proxy.set(Weather::default());
        soon("the echo", stream.read_exact(&mut answer)).await.expect("nothing was lost");
        assert_eq!(&answer, b"held");
    }
}

#[tokio::test]
async fn answers_alone_can_be_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = listener.local_addr().expect("an address");
    let proxy = Proxy::start(server, 7).await.expect("a proxy");
    proxy.set(Weather { silence: Silence::Answers, ..Weather::default() });
    let mut client = TcpStream::connect(proxy.address()).await.expect("connected");
    let (mut server, _) = soon("a connection", listener.accept()).await.expect("accepted");
    client.write_all(b"do").await.expect("sent");
    let mut request = [0; 2];
    soon("the request", server.read_exact(&mut request)).await.expect("it passes");
    server.write_all(b"ok").await.expect("sent");
    let early = tokio::time::timeout(SILENT, client.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
}

#[tokio::test]
async fn cut_connections_are_reset_and_new_ones_pass() {
    let (proxy, mut stream) = proxied().await;
    soon("an echo", exchange(&mut stream, b"before")).await.expect("an echo");
    proxy.cut();
    let error = soon("the reset", stream.read_u8()).await.expect_err("reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    let mut stream = TcpStream::connect(proxy.address()).await.expect("connected");
    soon("an echo", exchange(&mut stream, b"after")).await.expect("an echo");
}

#[tokio::test]
async fn a_half_closed_client_hears_the_end_and_may_still_speak() {
    let (proxy, mut stream) = proxied().await;
    soon("an echo", exchange(&mut stream, b"before")).await.expect("an echo");
    proxy.half_close();
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest)).await.expect("an end, no reset");
    assert!(rest.is_empty());
    stream.write_all(b"still here").await.expect("the other way is open");
}

#[tokio::test]
async fn a_refusing_door_and_a_server_that_is_gone_reset_who_comes() {
    let (proxy, mut stream) = proxied().await;
    soon("an echo", exchange(&mut stream, b"before")).await.expect("an echo");
    proxy.set(Weather { door: Door::Refusing, ..Weather::default() });
    let mut refused = TcpStream::connect(proxy.address()).await.expect("the kernel takes it");
    soon("the reset", refused.read_u8()).await.expect_err("reset");
    soon("an echo", exchange(&mut stream, b"who is in")).await.expect("stays in");
    proxy.set(Weather::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    proxy.lead_to(listener.local_addr().expect("an address"));
    drop(listener);
    let mut nowhere = TcpStream::connect(proxy.address()).await.expect("the kernel takes it");
    soon("the reset", nowhere.read_u8()).await.expect_err("reset");
    proxy.lead_to(echo().await);
    let mut stream = TcpStream::connect(proxy.address()).await.expect("connected");
    soon("an echo", exchange(&mut stream, b"moved")).await.expect("an echo");
}
