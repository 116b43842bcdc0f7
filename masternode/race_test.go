//go:build race

package masternode

// Seeds of the simulations: fewer, since the race detector makes each much slower.
const (
	simulationSeeds = 100
	damageSeeds     = 24
)
