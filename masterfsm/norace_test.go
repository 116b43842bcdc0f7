//go:build !race

package masterfsm

// underRace: the test was built without the race detector.
const underRace = false
