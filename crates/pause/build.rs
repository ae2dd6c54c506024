//! Tells the linker to leave out all that a C program would bring, and to lay the rest out as `pause.ld` says. `init`
//! is built by the same.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../pause/pause.ld");
    println!("cargo::rerun-if-changed={script}");
    let layout = format!("-Wl,-T,{script}");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,--gc-sections",
        &layout,
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
