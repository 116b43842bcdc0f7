//go:build !race

package masterfsm

// underRace reports whether the test was built with the race detector.
const underRace = false
