package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// roleFlags are those that every role has.
type roleFlags struct {
	data, http, advertise string
	clusterTokenFile      string
	logLevel, logFormat   string
	pprof                 string
	insecure              bool
}

func (f *roleFlags) add(flags *pflag.FlagSet, addr string) {
	flags.StringVar(&f.data, "data", "", "data `folder`, made where it is missing")
	flags.StringVar(&f.http, "http", addr, "`address` to serve HTTP on")
	flags.StringVar(&f.advertise, "advertise", "", "`URL` at which the other nodes reach this one (default: http:// and the address)")
	flags.StringVar(&f.clusterTokenFile, "cluster-token-file", "", "`file` with the cluster token (or CHAINSTORE_CLUSTER_TOKEN)")
	flags.StringVar(&f.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.pprof, "pprof", "", "loopback `address` to serve Go profiles on (default: none)")
	flags.BoolVar(&f.insecure, "insecure", false, "allow addresses other than loopback: tokens and records then cross that network in the clear")
}

// logger is the log of a role, on the standard error.
func (f *roleFlags) logger(name string) (hclog.Logger, error) {
	level := hclog.LevelFromString(f.logLevel)
	if level == hclog.NoLevel {
		return nil, fmt.Errorf("--log-level %q is none of trace, debug, info, warn and error", f.logLevel)
	}
	if f.logFormat != "text" && f.logFormat != "json" {
		return nil, fmt.Errorf("--log-format %q is neither text nor json", f.logFormat)
	}
	if err := serveProfiles(f.pprof); err != nil {
		return nil, err
	}
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: level, JSONFormat: f.logFormat == "json", Output: os.Stderr}), nil
}

// readSecret reads a token from a file, or from the environment: never from the command line, which others can see. It is ""
// where there is neither.
func readSecret(file, variable string) (string, error) {
	if file == "" {
		return strings.TrimSpace(os.Getenv(variable)), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s must hold one token and nothing else", file)
	}
	return token, nil
}

// runnable is a role that is open.
type runnable interface {
	Run(ctx context.Context) error
}

// runRole runs a role until a signal ends the command.
func runRole(cmd *cobra.Command, log hclog.Logger, role runnable) error {
	err := role.Run(cmd.Context())
	if err != nil {
		log.Error("stopped", "error", err)
		return errors.New("the role stopped: " + err.Error())
	}
	log.Info("stopped")
	return nil
}
