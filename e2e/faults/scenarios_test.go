package faults

// scenarios are the rows of the page, in their order.
var scenarios = []scenario{
	keyedWrites,
	plainWrites,
	batches,
	brokenConnections,
	outage,
	instant,
	stalls,
	failover,
	quota,
	overload,
	burst,
	drain,
}
