// Package house holds no code, only tests of the layout. They say which package may import which, where each
// third-party library lives, and what may be in the tree at all.
package house
