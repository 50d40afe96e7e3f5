//go:build unix && !race

package load_test

const slowdown = 1
