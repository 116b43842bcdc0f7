package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"chainstore": main})
}

// TestScripts runs the program as a separate process, and checks its output and its exit status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			f := clitest.NewCluster(env.T().(testing.TB))
			f.Profiling = 3
			f.Integrity.Lost = []chain.Range{{From: 7, To: 8}}
			f.CheckSteps("s-aaaabbbbcccc", clitest.Checking, clitest.CheckedGood)
			f.CheckSteps("s-ddddeeeeffff", clitest.CheckedBad, clitest.Repairing, clitest.Repaired)
			env.Setenv("CLUSTER_URL", f.URL)
			env.Setenv("PROJECT_TOKEN", clitest.ProjectToken)
			env.Setenv("ADMIN_TOKEN", clitest.AdminToken)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else a race-enabled program sleeps 1 s at its end
			for name, value := range newSignedLog(env.T().(testing.TB), 3).layOut(env.WorkDir) {
				env.Setenv(name, value)
			}
			env.Setenv("STORAGE", newStorageDir(env.T().(testing.TB), 3))
			env.Setenv("LONGER", newStorageDir(env.T().(testing.TB), 5)) // the log has signed only a part of it
			return nil
		},
	})
}
