//go:build unix && race

package load_test

// slowdown is how much longer the race detector lets everything take, at most.
const slowdown = 20
