package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the path of the chainstore program that the tests run. TestMain sets it, nobody changes it.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run builds the binary, once, and runs the tests.
func run(m *testing.M) int {
	clocks, err := os.MkdirTemp("", "chainstore-e2e-clocks-")
	if err == nil {
		err = os.Setenv(clockEnv, clocks)
	}
	if err == nil {
		err = os.Setenv("GORACE", "exitcode=0") // of the processes under test: their logs are looked through
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(clocks)
	if binary = os.Getenv("CHAINSTORE_E2E_BINARY"); binary != "" || testing.Short() {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "chainstore-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "chainstore")
	args := []string{"build", "-o", binary}
	if underRace {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/chainstore")...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: build chainstore:", err)
		return 1
	}
	return m.Run()
}
