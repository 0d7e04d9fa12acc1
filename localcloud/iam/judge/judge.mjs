// Judges IAM requests: one JSON request a line on stdin, one JSON answer a line on stdout.
import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

// The names of what decided: "policy", or "policy#Sid" where the statement has one.
function decisive(analysis) {
  const parts = [
    ['identity', analysis.identityAnalysis],
    ['session', analysis.sessionAnalysis],
    ['boundary', analysis.permissionBoundaryAnalysis],
    ['resource', analysis.resourceAnalysis],
  ]
  const denies = parts.flatMap(([kind, part]) => (part?.denyStatements ?? []).map((s) => [kind, s]))
  const allows = parts.flatMap(([kind, part]) => (part?.allowStatements ?? []).map((s) => [kind, s]))
  return (denies.length > 0 ? denies : allows).map(([kind, { policyId, statement }]) => {
    const sid = statement.sid()
    return `${kind}:${policyId ?? ''}${sid ? '#' + sid : ''}`
  })
}

// Several session policies act as one: what any of them allows, the session may do.
function merged(policies) {
  if (policies.length === 0) return undefined
  return { Version: '2012-10-17', Statement: policies.flatMap((policy) => policy.Statement) }
}

async function judge(asked) {
  const simulation = {
    request: {
      principal: asked.principal,
      action: asked.action,
      resource: { resource: asked.resource, accountId: asked.resourceAccount },
      contextVariables: asked.context,
    },
    identityPolicies: asked.identityPolicies,
    sessionPolicy: merged(asked.sessionPolicies),
    permissionBoundaryPolicies: asked.permissionBoundaries ?? undefined,
    resourcePolicy: asked.resourcePolicy ?? undefined,
    serviceControlPolicies: [],
    resourceControlPolicies: [],
  }
  let outcome = await runSimulation(simulation, {})
  if (outcome.resultType === 'error' && outcome.errors.message === 'must.use.wildcard') {
    // The action knows no resources: AWS evaluates it on "*", whatever it is called with.
    simulation.request.resource.resource = '*'
    outcome = await runSimulation(simulation, {})
  }
  if (outcome.resultType === 'error') return { result: 'Error', error: JSON.stringify(outcome.errors) }
  const results = outcome.resultType === 'single' ? [outcome.result] : outcome.results
  const statements = [...new Set(results.flatMap(({ analysis }) => decisive(analysis)))].sort()
  return { result: outcome.overallResult, statements }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    answer = await judge(JSON.parse(line))
  } catch (error) {
    answer = { result: 'Error', error: String(error) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
