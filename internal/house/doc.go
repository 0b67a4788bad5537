// Package house holds no code, only the test of how the rest is laid out: which package may import which, where each
// third-party library lives, and what may be in the tree at all.
package house
