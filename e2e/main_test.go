package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/e2e/powercut"
)

// binary is the path of the chainstore program that the tests run. Only TestMain sets it.
var binary string

func TestMain(m *testing.M) {
	if err := powercut.RunFiltered(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(run(m))
}

// run reads the settings, builds the program once, and runs the tests.
func run(m *testing.M) int {
	err := prepare()
	if scratch != "" {
		defer os.RemoveAll(scratch)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

func prepare() (err error) {
	if err = readSettings(); err != nil {
		return err
	}
	if scratch, err = os.MkdirTemp("", "chainstore-e2e-"); err != nil {
		return err
	}
	if err = os.Setenv(clockEnv, scratch); err != nil {
		return err
	}
	// The processes under test do not report a data race in their exit status. The tests search their logs instead.
	if err = os.Setenv("GORACE", "exitcode=0 atexit_sleep_ms=0"); err != nil {
		return err
	}
	if binary = settings.binary; binary != "" {
		return nil
	}
	binary = filepath.Join(scratch, "chainstore")
	return buildProgram(binary)
}
