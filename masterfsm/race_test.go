//go:build race

package masterfsm

// underRace: the race detector, which looks at every byte that is copied, makes times say nothing.
const underRace = true
