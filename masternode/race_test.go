//go:build race

package masternode

// Seeds of the simulations: fewer, since the race detector makes each much slower.
const (
	simulationSeeds = 30
	damageSeeds     = 8
)
