package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// settings holds the settings of the tests from the environment. README.md describes each variable.
var settings struct {
	soak            time.Duration // CHAINSTORE_SOAK
	seed            uint64        // CHAINSTORE_SEED
	faults, appends int           // CHAINSTORE_FAULTS, CHAINSTORE_APPENDS
	kinds           []string      // CHAINSTORE_KINDS
	behind          int           // CHAINSTORE_BEHIND
	scale           int           // CHAINSTORE_SCALE
	scaleTime       time.Duration // CHAINSTORE_SCALE_TIME
	load            int           // CHAINSTORE_LOAD
	network         string        // CHAINSTORE_E2E_NETWORK
	times           bool          // CHAINSTORE_TIMES
	input           string        // CHAINSTORE_E2E_INPUT
	binary          string        // CHAINSTORE_E2E_BINARY
	keep            bool          // CHAINSTORE_E2E_KEEP
}

func readSettings() (err error) {
	if kinds := os.Getenv("CHAINSTORE_KINDS"); kinds != "" {
		settings.kinds = strings.Split(kinds, ",")
	}
	settings.network = os.Getenv("CHAINSTORE_E2E_NETWORK")
	settings.times = os.Getenv("CHAINSTORE_TIMES") != ""
	settings.input = os.Getenv("CHAINSTORE_E2E_INPUT")
	settings.binary = os.Getenv("CHAINSTORE_E2E_BINARY")
	settings.keep = os.Getenv("CHAINSTORE_E2E_KEEP") != ""
	if n := settings.network; n != "" && n != "netns" && n != "proxy" {
		err = fmt.Errorf(`CHAINSTORE_E2E_NETWORK=%s: want "netns" or "proxy"`, n)
	}
	parse := func(name string, set func(value string) error) {
		if value := os.Getenv(name); value != "" {
			if wrong := set(value); wrong != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", name, wrong))
			}
		}
	}
	number := func(name string, value *int, least, most int) {
		parse(name, func(text string) error {
			n, err := strconv.Atoi(text)
			if err != nil || n < least || n > most {
				return fmt.Errorf("%s is not a number from %d to %d", text, least, most)
			}
			*value = n
			return nil
		})
	}
	settings.soak, settings.seed, settings.load = 12*time.Second, uint64(time.Now().UnixNano()), 1
	parse("CHAINSTORE_SOAK", func(text string) (err error) {
		settings.soak, err = time.ParseDuration(text)
		return err
	})
	parse("CHAINSTORE_SEED", func(text string) (err error) {
		settings.seed, err = strconv.ParseUint(text, 10, 64)
		return err
	})
	number("CHAINSTORE_FAULTS", &settings.faults, 0, 1e9)
	number("CHAINSTORE_APPENDS", &settings.appends, 0, 1e9)
	number("CHAINSTORE_BEHIND", &settings.behind, 0, 1e9)
	number("CHAINSTORE_SCALE", &settings.scale, 1000, 1e9)
	parse("CHAINSTORE_SCALE_TIME", func(text string) (err error) {
		settings.scaleTime, err = time.ParseDuration(text)
		return err
	})
	number("CHAINSTORE_LOAD", &settings.load, 1, 100)
	return err
}

// scratch is a folder for files that all tests share. TestMain creates and removes it.
var scratch string

// clockEnv is the variable that TestMain sets for the processes under test. It names a folder. In it, a process of the
// altered program reads the offset of its wall clock, in milliseconds, from a file named by its pid.
const clockEnv = "E2E_CLOCKS"

// inShort lists the tests that start processes with -short too, which is what `make test` runs. All others need `make
// test-all`.
var inShort = map[string]bool{
	"TestShort":          true,
	"TestCheckersNotice": true,
}

// needsTime skips a test that is not part of the short run. why names what takes long.
func needsTime(t *testing.T, why string) {
	t.Helper()
	root, _, _ := strings.Cut(t.Name(), "/")
	if testing.Short() && !inShort[root] {
		t.Skipf("not with -short: %s", why)
	}
}
