//go:build !race

package masternode

// Seeds of the simulations.
const (
	simulationSeeds = 3000
	damageSeeds     = 200
)
