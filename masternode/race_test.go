//go:build race

package masternode

// Seeds of the simulations: the race detector makes each ten times as long.
const (
	simulationSeeds = 150
	damageSeeds     = 24
)
