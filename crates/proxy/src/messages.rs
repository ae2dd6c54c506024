//! Messages of several channels in one.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// A channel whose messages go on to another one, in that one's words.
pub fn forward<T, U>(out: Sender<U>, word: fn(T) -> U) -> Result<Sender<T>, io::Error>
where
    T: Send + 'static,
    U: Send + 'static,
{
    let (sender, messages) = mpsc::channel();
    pass_on(messages, out, word)?;
    Ok(sender)
}

/// What comes by a channel goes on by another one, in its words.
pub fn pass_on<T, U>(messages: Receiver<T>, out: Sender<U>, word: fn(T) -> U) -> Result<(), io::Error>
where
    T: Send + 'static,
    U: Send + 'static,
{
    let work = move || {
        // It ends when nobody sends any more, or nobody listens.
        let _unheard = messages.into_iter().try_for_each(|message| out.send(word(message)));
    };
    thread::Builder::new().name("messages".to_owned()).spawn(work).map(drop)
}
