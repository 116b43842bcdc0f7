//go:build !race

package masternode

// Seeds of the simulations.
const (
	simulationSeeds = 2000
	damageSeeds     = 150
)
