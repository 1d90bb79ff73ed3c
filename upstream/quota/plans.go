package quota

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	upstreamv1 "github.com/yunxin-facade/yunxin-facade/gen/yunxin/upstream/v1"
)

// The plans of the upstream, and what is no plan.
const (
	PlanUnlimited = "unlimited"
	PlanStandard  = "standard"
	PlanAdvanced  = "advanced"
	PlanFlagship  = "flagship"
	PlanDedicated = "dedicated"
)

// Config says how often the upstream may be called. Each of its operations has a
// quota of its own.
type Config struct {
	// Plan is the app's plan, which gives the rates that the vendor grants unless
	// asked for more. Empty means PlanUnlimited.
	Plan string
	// Rates differ from the plan's. A key is the name of a class of operations
	// (single, batch-send, broadcast), or of an RPC, such as SendMessage.
	Rates map[string]Rate
}

// Rate is a number of calls per time. No calls means no limit.
type Rate struct {
	Calls int
	Per   time.Duration
}

// kept is the rate that is kept. It is lower than the granted rate by the calls that
// may come early, and by one in a hundred for calls that catch up with others on the
// way: the upstream refuses the first call too many and blocks all others for a while.
func (r Rate) kept() Rate {
	const percent = 100/burstShare + 1
	r.Calls -= r.Calls * percent / 100
	return r
}

// Use says which operation of the upstream a method calls. Methods that call the same
// operation share its quota.
type Use struct {
	Operation string
	Class     upstreamv1.QuotaClass
}

const longestPer = 24 * time.Hour

// The names of the classes.
var quotaClasses = map[upstreamv1.QuotaClass]string{
	upstreamv1.QuotaClass_QUOTA_CLASS_UNSPECIFIED: "single",
	upstreamv1.QuotaClass_QUOTA_CLASS_BATCH_SEND:  "batch-send",
	upstreamv1.QuotaClass_QUOTA_CLASS_BROADCAST:   "broadcast",
}

// The rates of the plans, by class. The standard plan has no broadcasts; the
// upstream will say so.
var quotaPlans = map[string]map[string]Rate{
	PlanUnlimited: {},
	PlanStandard:  {"single": {100, time.Second}, "batch-send": {120, time.Minute}, "broadcast": {10, time.Minute}},
	PlanAdvanced:  {"single": {100, time.Second}, "batch-send": {120, time.Minute}, "broadcast": {10, time.Minute}},
	PlanFlagship:  {"single": {500, time.Second}, "batch-send": {200, time.Minute}, "broadcast": {50, time.Minute}},
	PlanDedicated: {"single": {5000, time.Second}, "batch-send": {2000, time.Minute}, "broadcast": {1000, time.Minute}},
}

// Plans returns the names of the plans.
func Plans() []string {
	return []string{PlanStandard, PlanAdvanced, PlanFlagship, PlanDedicated, PlanUnlimited}
}

// Classes returns the names of the classes of operations.
func Classes() []string { return []string{"single", "batch-send", "broadcast"} }

// Table makes the quotas of methods, by their full gRPC name.
func Table(cfg Config, table map[string]Use) (map[string]*Quota, error) {
	plan, ok := quotaPlans[cmp.Or(cfg.Plan, PlanUnlimited)]
	if !ok {
		return nil, fmt.Errorf("plan %q: must be %s", cfg.Plan, strings.Join(Plans(), ", "))
	}
	own, err := ownRates(cfg.Rates, table)
	if err != nil {
		return nil, err
	}
	operations := make(map[string]*Quota)
	quotas := make(map[string]*Quota)
	for method, row := range table {
		if operations[row.Operation] == nil {
			class := quotaClasses[row.Class]
			rate, ok := own[row.Operation]
			if !ok {
				rate, ok = cfg.Rates[class]
			}
			if !ok {
				rate = plan[class]
			}
			operations[row.Operation] = New(rate.kept(), row.Class)
		}
		quotas[method] = operations[row.Operation]
	}
	return quotas, nil
}

// ownRates checks the rates of a configuration, and returns those of operations
// that have one of their own.
func ownRates(rates map[string]Rate, table map[string]Use) (map[string]Rate, error) {
	var errs []error
	known := make(map[string]bool)
	for _, class := range quotaClasses {
		known[class] = true
	}
	own := make(map[string]Rate)
	from := make(map[string]string) // the RPC whose rate that is
	classes := make(map[string]upstreamv1.QuotaClass)
	for _, method := range slices.Sorted(maps.Keys(table)) {
		rpc, operation, class := method[strings.LastIndexByte(method, '/')+1:], table[method].Operation, table[method].Class
		known[rpc] = true
		if other, ok := classes[operation]; ok && other != class {
			errs = append(errs, fmt.Errorf("%s of the upstream has two classes of quotas", operation))
		}
		classes[operation] = class
		rate, ok := rates[rpc]
		if !ok {
			continue
		}
		if other, ok := from[operation]; ok && own[operation] != rate {
			errs = append(errs, fmt.Errorf("quotas of %s and %s: both are %s of the upstream, which has one quota", other, rpc, operation))
		}
		own[operation], from[operation] = rate, rpc
	}
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		rate := rates[name]
		switch {
		case !known[name]:
			errs = append(errs, fmt.Errorf("quota of %q: no such RPC or class of operations", name))
		case rate.Calls < 0 || rate.Calls > 0 && (rate.Per <= 0 || rate.Per > longestPer):
			errs = append(errs, fmt.Errorf("quota of %s: %d calls per %s cannot be kept; the time must be above 0 and at most %s", name, rate.Calls, rate.Per, longestPer))
		}
	}
	return own, errors.Join(errs...)
}
