fn main() {
    kiln_sandbox::init();
}
