//go:build race

package httpapi

const underRace = true // a sync.Pool drops some of its content then
